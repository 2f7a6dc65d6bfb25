// Elements of the page. All text from people or the server goes in by textContent: never markup.

export const $ = (id) => document.getElementById(id);

export const coarse = () => matchMedia("(pointer: coarse)").matches;

export function make(name, properties = {}, ...children) {
  const element = Object.assign(document.createElement(name), properties);
  element.append(...children);
  return element;
}

export function complain(sentence) {
  $("error").textContent = sentence;
  $("error").hidden = !sentence;
}

// Gives a file to the person.
export function save(blob, name) {
  const link = make("a", { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

// Start of the page: what the server offers, and the events of its controls.

import { call, setToken } from "./api.js";
import { ask, askSoon, cancel, setServer } from "./asking.js";
import { $, complain, make } from "./dom.js";
import { cutOut, startDownloads } from "./downloads.js";
import { startRegions } from "./region.js";
import { startStage } from "./stage.js";
import { addExample, addFiles, remove, startStrip } from "./strip.js";
import { current, swapLook } from "./state.js";
import { startTable } from "./table.js";

let begun = "";  // words that the page began with: those that somebody typed stay
let model = 0;

startStage();
startRegions();
startTable(cutOut);
startDownloads();
startStrip();
listenToPictures();
listenToWords();
listenToLook();
$("access").addEventListener("submit", (event) => {
  event.preventDefault();
  setToken($("token").value);
  $("access").hidden = true;
  complain("");
  if (begun) ask();
  else begin();
});
begin();

async function begin() {
  try {
    const about = await (await call("/about")).json();
    setServer({ limits: about.limits, model: 0, refused: askForToken, discard: remove });
    $("models").replaceChildren(...about.models.map((name, i) => new Option(name, i)));
    $("choice").hidden = about.models.length < 2;
    $("choose").disabled = $("add").disabled = false;
    introduce(about);
  } catch (error) {
    if (error.status === 401) askForToken();
    else complain(error.message);
  }
}

function askForToken() {
  $("access").hidden = false;
  $("token").focus();
}

// Shows the model, its words and its examples.
function introduce(about) {
  if ($("words").value === begun) $("words").value = about.words;
  begun = about.words;
  grow();
  const { name, megabytes, licence, protocol, revision, note } = about.model;
  $("model").textContent = [name, `${megabytes} MB`, licence, protocol, revision]
    .filter(Boolean).join(" · ");
  $("note").textContent = note && `${note[0].toUpperCase()}${note.slice(1)}.`;
  $("note").hidden = !note;
  $("examples").hidden = !about.examples.length;
  $("example-list").replaceChildren(...about.examples.map(makeExample));
}

function makeExample(words, number) {
  const picture = make("img", { alt: "" });
  const button = make("button", { type: "button", className: "example" }, picture);
  const name = `example-${number + 1}.png`;
  button.setAttribute("aria-label", `Example ${number + 1}: ${words}`);
  const fetched = call(`/examples/${number}.png`).then((answer) => answer.blob())
    .then((blob) => new File([blob], name, { type: "image/png" }));
  fetched.then((file) => { picture.src = URL.createObjectURL(file); }, (error) => complain(error.message));
  button.addEventListener("click", async () => {
    const file = await fetched;
    $("words").value = words;
    $("behind").value = "";
    grow();
    addExample(file);
  });
  return make("li", {}, button);
}

// Another model needs the picture again, and may load for some seconds.
async function choose() {
  const wanted = Number($("models").value), before = $("model").textContent;
  $("models").disabled = true;
  $("model").textContent = "Loading the model";
  try {
    const about = await (await call(`/about?model=${wanted}`)).json();
    model = wanted;
    setServer({ model });
    introduce(about);
    complain("");
    ask();
  } catch (error) {
    $("models").value = String(model);
    $("model").textContent = before;
    complain(error.message);
  } finally {
    $("models").disabled = false;
  }
}

function listenToPictures() {
  const file = $("file"), frame = $("frame");
  for (const id of ["choose", "add"]) $(id).addEventListener("click", () => file.click());
  file.addEventListener("change", () => {
    addFiles([...file.files]);
    file.value = "";  // so that the same file can be chosen again
  });
  const isPicture = (one) => one.type.startsWith("image/") || /\.(tiff?|heic|avif)$/i.test(one.name);
  for (const name of ["dragover", "dragleave", "drop"]) {
    document.addEventListener(name, (event) => {
      if (!event.dataTransfer.types.includes("Files")) return;  // text is dropped into a field
      event.preventDefault();
      frame.classList.toggle("over", name === "dragover");
      if (name === "drop") addFiles([...event.dataTransfer.files].filter(isPicture));
    });
  }
  document.addEventListener("paste", (event) => {
    const pictures = [...(event.clipboardData?.files || [])].filter(isPicture);
    if (!pictures.length) return;
    event.preventDefault();
    addFiles(pictures);
  });
  $("cancel").addEventListener("click", () => { cancel(); $("canvas").focus({ preventScroll: true }); });
  $("models").addEventListener("change", choose);
}

function listenToWords() {
  for (const id of ["words", "behind"]) $(id).addEventListener("input", askSoon);
  $("words").addEventListener("input", grow);
  $("words").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) ask();
  });
  $("question").addEventListener("submit", (event) => {
    event.preventDefault();
    ask();
  });
  $("refine").addEventListener("change", () => ask());
}

// The field shows all its lines.
function grow() {
  const field = $("words");
  field.style.height = "auto";
  field.style.height = `${Math.min(field.scrollHeight + 2, 260)}px`;
}

function listenToLook() {
  const read = () => {
    $("opacity-value").textContent = `${$("opacity").value} %`;
    $("threshold-value").textContent = (Number($("threshold").value) / 100).toFixed(2);
    swapLook({
      view: document.querySelector("input[name=view]:checked").value,
      opacity: Number($("opacity").value) / 100,
      threshold: Number($("threshold").value) / 100,
      names: $("names").checked,
      region: Number($("threshold").value) / 100 === current().look.threshold ? current().look.region : null,
    });
  };
  for (const id of ["opacity", "threshold", "names"]) $(id).addEventListener("input", read);
  for (const radio of document.querySelectorAll("input[name=view]")) radio.addEventListener("change", read);
  read();
}

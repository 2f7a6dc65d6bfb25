// Requests to the server: bearer token, errors as one sentence, upload cached by model.

// Behind "#" the token stays out of logs.
let token = new URLSearchParams(location.hash.slice(1)).get("token") || "";

export function setToken(text) {
  token = text.trim();
}

export class Refused extends Error {
  constructor(sentence, status) {
    super(sentence);
    this.status = status;
  }
}

// Addresses are relative, because a proxy may add a path.
export async function call(path, options = {}) {
  const headers = { ...options.headers, ...(token ? { Authorization: `Bearer ${token}` } : {}) };
  let answer;
  try {
    answer = await fetch(`.${path}`, { ...options, headers });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused("The server does not answer. Check that zeroseg serve still runs.", 0);
  }
  if (answer.ok) return answer;
  let sentence = `The server answers with status ${answer.status}.`;
  try {
    sentence = (await answer.json()).error || sentence;
  } catch { /* A proxy's answer is not JSON: the status has to do. */ }
  throw new Refused(sentence[0].toUpperCase() + sentence.slice(1), answer.status);
}

export function postJson(path, content, signal) {
  const headers = { "Content-Type": "application/json" };
  return call(path, { method: "POST", signal, headers, body: JSON.stringify(content) });
}

// Asks about a picture; uploads it first where the server does not hold it.
// report: receives a sentence about the progress.
export async function askAbout(path, picture, question, extra, signal, report = () => {}) {
  const { model, ...fields } = question;
  for (let attempt = 0; ; attempt++) {
    let held = picture.entry.held.get(model);
    if (!held) {
      report("Sending the picture");
      const headers = { "Content-Type": "application/octet-stream" };
      const options = { method: "POST", signal, headers, body: picture.sent };
      held = await (await call(`/pictures?model=${model}`, options)).json();
      picture.entry.held.set(model, held);
      picture.entry.size = { width: held.width, height: held.height };
    }
    report("Segmenting");
    const name = picture.name.slice(0, 200);
    try {
      return await postJson(path, { ...fields, ...extra, picture: held.picture, name }, signal);
    } catch (error) {
      if (error.status !== 410 || attempt) throw error;
      picture.entry.held.delete(model);  // others pushed it out of the cache: send it again, once
    }
  }
}

// Script of vote.html: keeps choices in localStorage and saves them as votes.csv.
// VOTE = {id, images: [{name, left, right}]} is defined by vote_page.py.
const KEY = "votes-" + VOTE.id;
let votes = {};
try { votes = JSON.parse(localStorage.getItem(KEY) || "{}"); } catch (error) { votes = {}; }
function show() {
  for (const button of document.querySelectorAll("button[data-image]")) {
    button.classList.toggle("chosen", votes[button.dataset.image] === button.dataset.choice);
  }
  document.getElementById("count").textContent =
    Object.keys(votes).length + " of " + VOTE.images.length + " answered";
}
for (const button of document.querySelectorAll("button[data-image]")) {
  button.addEventListener("click", () => {
    votes[button.dataset.image] = button.dataset.choice;
    try { localStorage.setItem(KEY, JSON.stringify(votes)); } catch (error) { /* kept in memory */ }
    show();
  });
}
function cell(text) {
  // Spreadsheets run a cell that starts with = + - or @ as a formula.
  const safe = /^[=+\-@]/.test(text) ? "'" + text : text;
  return '"' + safe.replaceAll('"', '""') + '"';
}
document.getElementById("save").addEventListener("click", () => {
  const voter = document.getElementById("voter").value;
  const lines = ["image,left,right,choice,winner,voter"];
  VOTE.images.forEach((image, i) => {
    const choice = votes[String(i)] || "";
    const winner = choice === "left" ? image.left : choice === "right" ? image.right : choice;
    lines.push([image.name, image.left, image.right, choice, winner, voter].map(cell).join(","));
  });
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([lines.join("\r\n") + "\r\n"], {type: "text/csv"}));
  link.download = "votes.csv";
  link.click();
  URL.revokeObjectURL(link.href);
});
show();

"use strict";
const at = (id) => document.getElementById(id);
let about = null, picture = null, last = null;

const show = (error) => { at("error").hidden = !error; at("error").textContent = error || ""; };

async function ask(path, body) {
  const answer = await fetch(path, { method: "POST", headers: { "Content-Type": body.type }, body: body.content });
  const found = await answer.json();
  if (!answer.ok) throw new Error(found.error || JSON.stringify(found.detail) || answer.statusText);
  return found;
}

function asked() {
  if (about.kind === "pictures") {
    if (!picture) throw new Error("choose a picture first");
    return { type: picture.type || "application/octet-stream", content: picture };
  }
  if (about.kind === "texts") return { type: "application/json", content: JSON.stringify(at("text").value) };
  const row = Object.create(null);  // a column may be called __proto__
  for (const input of at("columns").querySelectorAll("input")) row[input.name] = input.value;
  return { type: "application/json", content: JSON.stringify(row) };
}

function draw(found) {
  const result = at("result");
  result.replaceChildren();
  if ("value" in found) { result.textContent = String(found.value); return; }
  // An object has keys that look like numbers first, whatever their order was.
  const likely = Object.entries(found.probabilities).sort((one, other) => other[1] - one[1]);
  for (const [name, chance] of likely) {
    const line = document.createElement("div"), bar = document.createElement("div"), inner = document.createElement("div");
    line.textContent = `${name} ${(100 * chance).toFixed(1)} %`;
    bar.className = "bar";
    inner.style.width = `${100 * chance}%`;
    bar.append(inner);
    result.append(line, bar);
  }
}

function take(file) {
  picture = file;
  at("shown").src = URL.createObjectURL(file);
  at("shown").hidden = false;
}

at("form").addEventListener("submit", async (event) => {
  event.preventDefault();
  show("");
  at("wrong").hidden = true;
  try {
    last = asked();
    const found = (await ask("predict", last)).predictions[0];
    draw(found);
    at("wrong").hidden = !about.can_learn;
    at("learned").textContent = "";
    if (about.can_learn) at("label").value = found.label;
  } catch (error) { show(error.message); }
});

at("wrong").addEventListener("submit", async (event) => {
  event.preventDefault();
  show("");
  try {
    const found = await ask(`correct?label=${encodeURIComponent(at("label").value)}`, last);
    at("learned").textContent = `learned (${found.corrections})`;
    draw((await ask("predict", last)).predictions[0]);
  } catch (error) { show(error.message); }
});

at("file").addEventListener("change", () => { if (at("file").files.length) take(at("file").files[0]); });
for (const name of ["dragover", "dragleave", "drop"]) {
  at("drop").addEventListener(name, (event) => {
    event.preventDefault();
    at("drop").classList.toggle("over", name === "dragover");
    if (name === "drop" && event.dataTransfer.files.length) take(event.dataTransfer.files[0]);
  });
}

fetch("about").then((answer) => answer.json()).then((found) => {
  about = found;
  at("about").textContent = `${about.network}${about.classes.length ? `, ${about.classes.length} classes` : ""}`;
  at("drop").hidden = about.kind !== "pictures";
  at("text").hidden = about.kind !== "texts";
  at("columns").hidden = about.kind !== "table";
  for (const name of about.columns) {
    const label = document.createElement("label"), input = document.createElement("input");
    input.name = name;
    input.type = "text";
    label.append(`${name} `, input);
    at("columns").append(label);
  }
  for (const name of about.classes) at("label").append(new Option(name, name));
});

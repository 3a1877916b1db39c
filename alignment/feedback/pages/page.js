"use strict";
const form = document.getElementById("answer");
const dialog = document.getElementById("guidelines");
const undo = document.getElementById("undo");
const keys = document.getElementById("keys");
const cards = [...document.querySelectorAll(".card[data-letter]")];
const RATINGS = "qwert";
const FLAGS = "asdfv";

function move(step) {
  const at = cards.findIndex((card) => card.contains(document.activeElement));
  const next = at < 0 ? (step > 0 ? 0 : cards.length - 1) : Math.min(cards.length - 1, Math.max(0, at + step));
  cards[next].focus();
}

function set(name, value) {
  const input = form.querySelector(`input[name="${name}"][value="${value}"]`);
  if (input === null) return false;
  input.checked = input.type === "radio" || !input.checked;
  return true;
}

function inCard(key) {
  const card = cards.find((one) => one.contains(document.activeElement));
  if (card === undefined) return false;
  const letter = card.dataset.letter;
  if (/^[1-9]$/.test(key)) return set(`rank_${letter}`, key);
  if (RATINGS.includes(key)) return set(`rating_${letter}`, RATINGS.indexOf(key) + 1);
  if (FLAGS.includes(key)) {
    const flags = card.querySelectorAll('input[type="checkbox"]');
    flags[FLAGS.indexOf(key)].checked = !flags[FLAGS.indexOf(key)].checked;
    return true;
  }
  return false;
}

function act(key) {
  if (key === "g" && dialog) return dialog.showModal(), true;
  if (key === "u" && undo) return undo.querySelector("button").click(), true;
  if (form === null) return false;
  if (key === "Enter") return form.requestSubmit(), true;
  if (cards.length === 0) return /^[1-8]$/.test(key) && set("choice", key);
  if (key === "ArrowDown" || key === "j") return move(1), true;
  if (key === "ArrowUp" || key === "k") return move(-1), true;
  return inCard(key);
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing || event.repeat) return;
  if (dialog?.open || (keys && !keys.checked)) return;
  const target = event.target;
  if (target.matches("input:not([type=radio], [type=checkbox]), select, textarea")) return;
  if (event.key === "Enter" && target.matches("a, button, summary")) return;
  if (event.key.startsWith("Arrow") && target.matches("input[type=radio]")) return;
  if (act(event.key)) event.preventDefault();
});

document.getElementById("open-guidelines")?.addEventListener("click", () => dialog.showModal());

if (keys) {
  keys.checked = localStorage.getItem("keys") !== "off";
  keys.addEventListener("change", () => localStorage.setItem("keys", keys.checked ? "on" : "off"));
}

form?.addEventListener("submit", () => {
  form.querySelector("button.main").disabled = true;  // one answer a press
});
window.addEventListener("pageshow", () => {
  const button = form?.querySelector("button.main");
  if (button) button.disabled = false;
});

form?.addEventListener("invalid", () => {
  const legend = form.querySelector("input:invalid").closest("fieldset").querySelector("legend").textContent;
  document.getElementById("missing").textContent = `Still missing: ${legend}`;
}, true);

(cards[0] ?? document.getElementById("main")).focus({ preventScroll: true });

// What the pages do better with scripts. Without them everything works, too.
"use strict";

document.documentElement.classList.add("scripts");

document.addEventListener("DOMContentLoaded", () => {
  const nav = document.querySelector(".side"), here = nav?.querySelector("[aria-current]");
  if (here) nav.scrollLeft = here.offsetLeft - (nav.clientWidth - here.offsetWidth) / 2;
});

const announce = (text) => {
  const region = document.getElementById("announcement");
  region.textContent = "";
  requestAnimationFrame(() => { region.textContent = text; });
};

const copy = async (button) => {
  const source = document.getElementById(button.dataset.copy);
  const text = source.value ?? source.textContent;
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const range = document.createRange();
    range.selectNodeContents(source);
    getSelection().removeAllRanges();
    getSelection().addRange(range);
    document.execCommand("copy");
  }
  const label = button.querySelector(".label");
  const before = label.textContent;
  label.textContent = button.dataset.copied;
  button.classList.add("is-done");
  announce(button.dataset.copied);
  setTimeout(() => { label.textContent = before; button.classList.remove("is-done"); }, 2000);
};

document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-copy]");
  if (button) copy(button);
  for (const menu of document.querySelectorAll("details.menu[open]")) {
    if (!menu.contains(event.target)) menu.open = false;
  }
});

document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  for (const menu of document.querySelectorAll("details.menu[open]")) {
    menu.open = false;
    if (menu.contains(document.activeElement)) menu.querySelector("summary").focus();
  }
});

// Numbers that renew themselves rest while nobody looks at them, and say when they are old.
document.addEventListener("htmx:beforeRequest", (event) => {
  if (document.hidden && event.target.matches("[data-polls]")) event.preventDefault();
});
document.addEventListener("visibilitychange", () => {
  const polling = document.querySelector("[data-polls]");
  if (polling && !document.hidden) htmx.trigger(polling, "seen");
});
for (const [name, stale] of [["htmx:afterSwap", false], ["htmx:sendError", true], ["htmx:responseError", true]]) {
  document.addEventListener(name, (event) => {
    if (event.target.matches("[data-polls]")) document.getElementById("stale").hidden = !stale;
  });
}

// A search that fails is sent as it would be without scripts: then the browser shows why.
for (const name of ["htmx:sendError", "htmx:responseError"]) {
  document.addEventListener(name, (event) => {
    if (event.target.matches("form[method=get]")) event.target.submit();
  });
}

// A day that is typed is chosen, and another choice takes it away.
document.addEventListener("input", (event) => {
  const { name, value, form } = event.target, lifetime = form?.elements.lifetime, day = form?.elements.expires;
  if (!lifetime || !day) return;
  if (name === "expires" && value) lifetime.value = "date";
  if (name === "lifetime" && value !== "date") day.value = "";
});

// A form is sent once, however often its button is pressed.
document.addEventListener("submit", (event) => {
  const form = event.target;
  if (form.method !== "post" || event.defaultPrevented) return;
  if (form.dataset.sent) { event.preventDefault(); return; }
  form.dataset.sent = "yes";
  addEventListener("pageshow", () => delete form.dataset.sent, { once: true });
});

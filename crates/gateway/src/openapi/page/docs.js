// What the page can do beyond being read: search, copy, choose colours. Everything else works without this file.
"use strict";

const byId = (id) => document.getElementById(id);
const search = byId("search");
const found = byId("found");
document.querySelector(".tools").hidden = false;

// Search: every word has to occur in an operation. Sections and the navigation follow.
function filter() {
  const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
  let count = 0;
  for (const article of document.querySelectorAll("article.operation")) {
    const hit = words.every((word) => article.dataset.search.includes(word));
    article.hidden = !hit;
    count += hit ? 1 : 0;
    const entry = document.querySelector(`nav li[data-for="${CSS.escape(article.id)}"]`);
    if (entry) entry.hidden = !hit;
  }
  for (const section of document.querySelectorAll("main section")) {
    const operations = [...section.querySelectorAll("article.operation")];
    section.hidden = words.length > 0 && operations.every((article) => article.hidden);
  }
  found.textContent = words.length === 0 ? "" : count === 1 ? "1 operation" : `${count} operations`;
}

search.addEventListener("input", filter);
document.addEventListener("keydown", (event) => {
  const typing = event.target instanceof HTMLInputElement;
  if (event.key === "/" && !typing && !event.ctrlKey && !event.metaKey && !event.altKey) {
    event.preventDefault();
    search.focus();
  } else if (event.key === "Escape" && event.target === search) {
    search.value = "";
    filter();
  }
});

// A link to something the search hides shows everything again.
window.addEventListener("hashchange", () => {
  const target = byId(decodeURIComponent(location.hash.slice(1)));
  if (target && target.closest("[hidden]")) {
    search.value = "";
    filter();
    target.scrollIntoView();
  }
});

// Copying: without a secure context there is no clipboard, then the text is selected instead.
for (const sample of document.querySelectorAll(".sample")) {
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = "Copy";
  button.addEventListener("click", async () => {
    const code = sample.querySelector("code");
    try {
      await navigator.clipboard.writeText(code.textContent);
      button.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(code);
      button.textContent = "Press Ctrl+C";
    }
    setTimeout(() => { button.textContent = "Copy"; }, 2000);
  });
  sample.append(button);
}

// Colours: system, light, dark.
const themes = ["system", "light", "dark"];
const theme = byId("theme");
function show(name) {
  if (name === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = name;
  theme.textContent = `Colours: ${name}`;
}
let chosen = "system";
try {
  chosen = themes.includes(localStorage.getItem("theme")) ? localStorage.getItem("theme") : "system";
} catch { /* storage may be forbidden */ }
show(chosen);
theme.addEventListener("click", () => {
  chosen = themes[(themes.indexOf(chosen) + 1) % themes.length];
  show(chosen);
  try { localStorage.setItem("theme", chosen); } catch { /* as above */ }
});

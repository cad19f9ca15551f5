// What every page does in the browser: theme, menus, keys, zones. Pages work without it, one click slower.

const root = document.documentElement;
const dark = () => root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;

/** Tells whoever draws (charts) that colours have changed. */
const themed = () => document.dispatchEvent(new CustomEvent("themed", { detail: { dark: dark() } }));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", themed);

const toggle = document.getElementById("theme");
if (toggle) {
  toggle.hidden = false;
  toggle.addEventListener("click", () => {
    const next = dark() ? "light" : "dark";
    root.dataset.theme = next;
    document.querySelector("meta[name=color-scheme]").content = next;
    const secure = location.protocol === "https:" ? "; Secure" : "";
    document.cookie = `aicg_theme=${next}; Path=/; Max-Age=31536000; SameSite=Lax${secure}`;
    themed();
  });
}

// On a narrow screen the menu of pages scrolls: what is marked is seen.
const pages = document.querySelector("nav.pages");
const marked = pages?.querySelector("[aria-current]");
if (marked) pages.scrollLeft = marked.offsetLeft - pages.offsetLeft - (pages.clientWidth - marked.offsetWidth) / 2;

// Menus: one open at a time, closed by Escape or a click elsewhere.
const menus = () => document.querySelectorAll("details.menu[open]");
document.addEventListener("click", (event) => {
  for (const menu of menus()) if (!menu.contains(event.target)) menu.open = false;
});
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") {
    for (const menu of menus()) {
      menu.open = false;
      menu.querySelector("summary").focus();
    }
  }
  const typing = event.target.closest?.("input, textarea, select, [contenteditable]");
  if (event.key === "/" && !typing && !event.ctrlKey && !event.metaKey && !event.altKey) {
    const field = document.querySelector("[data-filter]");
    if (field) {
      event.preventDefault();
      field.focus();
      field.select?.();
    }
  }
});

// The zones that the browser knows, its own first, once somebody is about to choose one.
document.addEventListener("focusin", (event) => {
  if (event.target.getAttribute?.("list") !== "zones") return;
  const list = document.getElementById("zones");
  if (list.childElementCount > 1) return;
  const own = Intl.DateTimeFormat().resolvedOptions().timeZone;
  for (const name of [own, ...Intl.supportedValuesOf("timeZone")]) list.append(new Option("", name));
});

// Forms that ask (data-auto): a change is enough.
for (const form of document.querySelectorAll("form[data-auto]")) {
  form.addEventListener("change", () => form.requestSubmit());
}

// What cannot be taken back is asked about (data-confirm).
document.addEventListener("submit", (event) => {
  const says = event.submitter?.dataset.confirm ?? event.target.dataset.confirm;
  if (says && !confirm(says)) event.preventDefault();
});

// Copy what stands in the element that a button names (data-copy="#id").
document.addEventListener("click", async (event) => {
  const button = event.target.closest?.("[data-copy]");
  if (!button) return;
  const text = document.querySelector(button.dataset.copy).textContent;
  await navigator.clipboard.writeText(text);
  const before = button.textContent;
  button.textContent = "Copied";
  setTimeout(() => { button.textContent = before; }, 1500);
});

// Parts of a page that take longer than the rest (data-part) are fetched once it stands. The ledger has escaped them.
for (const part of document.querySelectorAll("[data-part]")) {
  fetch(part.dataset.part, { headers: { Accept: "text/html" } }).then(async (reply) => {
    if (!reply.ok || reply.redirected) throw new Error(`${reply.status}`);
    part.innerHTML = await reply.text();
    part.dataset.state = "there";
  }).catch(() => { part.dataset.state = "failed"; });
}

// New receipts, as they come in: put on top of the table that asks for them; or, before the first one, a new page.
const MOST = 50;
const body = document.querySelector("[data-tail]");
const state = document.getElementById("live-state");
const say = (text, kind = "") => { if (state) { state.textContent = text; state.dataset.kind = kind; } };

if (body) {
  const stream = new EventSource(body.dataset.tail);
  stream.addEventListener("open", () => say("following", "on"));
  stream.addEventListener("error", () => say(stream.readyState === EventSource.CLOSED ? "not following" : "reconnecting", "off"));
  stream.addEventListener("over", () => { stream.close(); say("not following: log in again", "off"); });
  stream.addEventListener("message", (event) => {
    const found = JSON.parse(event.data);
    if (body.dataset.go) { location.assign(body.dataset.go); return; }
    body.querySelector(".nothing")?.remove();
    for (const html of found.rows.reverse()) {
      const made = document.createElement("template");
      made.innerHTML = html;
      const row = made.content.firstElementChild;
      row.classList.add("fresh");
      body.prepend(row);
    }
    while (body.rows && body.rows.length > MOST) body.rows[body.rows.length - 1].remove();
  });
  addEventListener("pagehide", () => stream.close());
}

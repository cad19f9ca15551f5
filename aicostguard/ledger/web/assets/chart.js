// Draws every figure of the page (figure[data-chart]) from the drawing in its script element, and lets it be used: values
// under the pointer, names of the legend, a stretch of time that is dragged over, a mark that leads to its filter. The
// library comes from the ledger itself and interprets expressions, so nothing here needs `unsafe-eval`.

const NARROW = 480;
/** marks beyond which elements of their own would be too many */
const MANY = 1500;
const HOUR = 3_600_000, DAY = 24 * HOUR;

const root = document.documentElement;
const look = () => getComputedStyle(root).colorScheme.includes("dark") ? "dark" : "light";
const source = document.querySelector("meta[name=chart-library]")?.content;
let library;

/** The library, once somebody needs it. */
const vega = () => library ??= import(source);

const tip = document.createElement("div");
tip.className = "chart-tip";
tip.hidden = true;
document.body.append(tip);

/** What lies under the pointer, as text: names of the data are never markup. */
function tell(_, event, item, value) {
  tip.hidden = value == null || value === "";
  if (tip.hidden) return;
  const rows = Object.entries(value).filter(([, text]) => text != null && text !== "");
  tip.replaceChildren(...rows.flatMap(([name, text]) => {
    const [term, says] = [document.createElement("span"), document.createElement("b")];
    term.textContent = name;
    says.textContent = text;
    return [term, says];
  }));
  const { innerWidth, innerHeight } = window;
  const { offsetWidth, offsetHeight } = tip;
  const left = event.clientX + 16 + offsetWidth > innerWidth ? event.clientX - offsetWidth - 12 : event.clientX + 16;
  const top = event.clientY + 16 + offsetHeight > innerHeight ? event.clientY - offsetHeight - 12 : event.clientY + 16;
  tip.style.left = `${Math.max(4, left)}px`;
  tip.style.top = `${Math.max(4, top)}px`;
}

/** To this page with other parameters; a page further on in a list is left. */
function visit(change, elsewhere = false) {
  const parameters = new URLSearchParams(location.search);
  parameters.delete("cursor");
  change(parameters);
  const address = `${location.pathname}?${parameters}`;
  if (elsewhere) window.open(address, "_blank", "noopener");
  else location.assign(address);
}

/** A mark was clicked: what it stands for becomes the filter. */
function filter(event, item) {
  const go = item?.datum?.go;
  if (!go) return;
  visit((parameters) => {
    const wanted = [...new URLSearchParams(go)];
    for (const [name] of wanted) parameters.delete(name);
    for (const [name, value] of wanted) parameters.append(name, value);
  }, event.ctrlKey || event.metaKey);
}

/** A stretch of time was dragged over, in the clock of the page's zone: it becomes the period. */
function zoom([from, to], unit) {
  const step = unit === "hour" ? HOUR : DAY;
  const [since, until] = [Math.floor(from / step) * step, Math.ceil(to / step) * step];
  const said = (ms) => new Date(ms).toISOString().slice(0, unit === "hour" ? 16 : 10);
  visit((parameters) => {
    parameters.set("since", said(since));
    parameters.set("until", said(until));
    parameters.delete("compare");
    const groups = parameters.get("group_by")?.split(",") ?? [];
    const at = groups.indexOf("day");
    if (at >= 0 && until - since <= 3 * DAY) {
      groups[at] = "hour";
      parameters.set("group_by", groups.join(","));
    }
  });
}

function interact(view, spec) {
  const { click, brush } = spec.usermeta;
  if (click) view.addEventListener("click", filter);
  if (!brush) return;
  let range = null;
  view.addSignalListener("brush", (_, value) => { range = value?.t ?? null; });
  view.addEventListener("pointerup", () => {
    const [from, to] = range ?? [0, 0];
    // What is not wider than a pointer's tremble is a click.
    const [first, last] = view.scale("x").domain().map(Number);
    if (to - from > (last - first) / 60) zoom([Math.max(from, first), Math.min(to, last)], brush);
  });
}

/** The number of marks that a drawing will have, roughly. */
const size = (spec) => spec.data.values.length;

async function draw(figure) {
  const plot = figure.querySelector(".plot");
  const wide = plot.clientWidth;
  if (!wide) return;
  const turn = figure.turn = (figure.turn ?? 0) + 1;
  try {
    const { embed, themes } = await vega();
    const spec = JSON.parse(figure.querySelector("script").textContent);
    const config = structuredClone(themes[look()]);
    config.legend.columns = Math.max(1, Math.floor(wide / 168));
    if (wide < NARROW) config.axisY.labelLimit = Math.floor(wide / 3);
    const stage = document.createElement("div");
    plot.replaceChildren(stage);
    const { view, finalize } = await embed(stage, spec, {
      config, mode: "vega-lite", ast: true, actions: false, defaultStyle: false, tooltip: tell,
      renderer: size(spec) > MANY ? "canvas" : "svg",
    });
    if (turn !== figure.turn) {
      finalize();
      return;
    }
    // The plot says what is seen, once; what is inside of it are lines and letters.
    for (const name of ["role", "aria-roledescription", "aria-label"]) stage.removeAttribute(name);
    stage.setAttribute("aria-hidden", "true");
    figure.finalize?.();
    Object.assign(figure, { view, finalize, wide });
    interact(view, spec);
    figure.dataset.state = "drawn";
    for (const button of figure.querySelectorAll("[data-save]")) button.hidden = false;
  } catch (error) {
    console.error(error);
    figure.dataset.state = "failed";
    plot.textContent = "The chart could not be drawn. The figures are in the table.";
  }
}

/** The picture as a file. */
async function save(button) {
  const figure = button.closest("figure");
  const form = button.dataset.save;
  const link = document.createElement("a");
  link.href = await figure.view.toImageURL(form, 2);
  link.download = `${figure.dataset.chart || "chart"}.${form}`;
  link.click();
}

const figures = [...document.querySelectorAll("figure[data-chart]")].filter((figure) => figure.querySelector("script"));
const resized = new ResizeObserver((entries) => {
  for (const { target } of entries) {
    const figure = target.closest("figure");
    clearTimeout(figure.later);
    // The first time at once; then when the page has come to rest at another width.
    if (figure.wide === undefined) draw(figure);
    else if (Math.abs(figure.wide - target.clientWidth) > 1) figure.later = setTimeout(draw, 120, figure);
  }
});

if (source) {
  for (const figure of figures) resized.observe(figure.querySelector(".plot"));
  document.addEventListener("themed", () => figures.forEach(draw));
  document.addEventListener("click", (event) => {
    const button = event.target.closest?.("[data-save]");
    if (button) save(button);
  });
  addEventListener("scroll", () => { tip.hidden = true; }, { passive: true });
}

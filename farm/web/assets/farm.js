"use strict";
// Keeps a job's page and the list of jobs current, and puts a command together on the submit page.
// Pages work without it: they are whole when loaded.

const REFRESH_MS = 400;
const FALLBACK_MS = 3000;

/** Replace an element's content by a newer version, leaving open what is open and the focus where it is. */
function replaceContent(element, html) {
  const details = (root) => [...root.querySelectorAll("details")];
  const keyOf = (item) => `${item.closest("article")?.id ?? ""}/${item.querySelector("summary").textContent.replace(/\d+/g, "")}`;
  const open = new Map(details(element).map((item) => [keyOf(item), item.open]));
  const focused = element.contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
  element.innerHTML = html;
  for (const item of details(element)) if (open.has(keyOf(item))) item.open = open.get(keyOf(item));
  if (focused) element.querySelector(`[href="${CSS.escape(focused)}"]`)?.focus();
}

async function fetchText(url) {
  const answer = await fetch(url, { headers: { Accept: "text/html" } });
  if (answer.status === 401) location.reload();
  return answer.ok ? answer.text() : null;
}

function followJob(element) {
  const base = element.dataset.live;
  const source = new EventSource(`${base}/events`);
  let timer = null;
  const refresh = async () => {
    timer = null;
    const html = await fetchText(`${base}/live`).catch(() => null);
    if (html === null) return;
    replaceContent(element, html);
    if (element.querySelector("[data-ended]")) {
      source.close();
      clearInterval(fallback);
    }
  };
  const soon = () => { timer ??= setTimeout(refresh, REFRESH_MS); };
  for (const name of ["job", "result", "step", "end"]) source.addEventListener(name, soon);
  const fallback = setInterval(() => { if (source.readyState !== EventSource.OPEN) soon(); }, FALLBACK_MS);
}

function pollList(element) {
  setInterval(async () => {
    const html = await fetchText(element.dataset.poll).catch(() => null);
    const newer = html && new DOMParser().parseFromString(html, "text/html").getElementById(element.id);
    if (newer) replaceContent(element, newer.innerHTML);
  }, FALLBACK_MS);
}

/** Quote for a POSIX shell. */
function quoted(text) {
  return /^[\w./:@%+=,-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`;
}

function composeCommand(form) {
  const update = () => {
    const model = form.querySelector("#model").value || "model.onnx";
    const target = form.querySelector("#target").value;
    const recipes = [...form.querySelectorAll("[name=recipe]:checked")];
    const given = form.querySelector("#calibration").value;
    const calibration = given || (recipes.some((box) => "calibration" in box.dataset) ? "calibration.npz" : "");
    const names = recipes.map((box) => box.value);
    const parts = ["farm submit", quoted(model), "--target", target, ...names.map((name) => `--recipe ${name}`)];
    if (calibration) parts.push("--calibration", quoted(calibration));
    document.getElementById("command").textContent = `${parts.join(" ")} --wait`;
    const extra = calibration ? `, calibration=${JSON.stringify(calibration)}` : "";
    const listed = names.length ? `, recipes=${JSON.stringify(names)}` : "";
    document.getElementById("python").textContent =
      `from farm import Client\n\njob = Client().submit(${JSON.stringify(model)}, ` +
      `targets=${JSON.stringify([target])}${listed}${extra}, wait=True)\njob`;
  };
  form.addEventListener("input", update);
  form.addEventListener("submit", (event) => event.preventDefault());
}

for (const element of document.querySelectorAll("[data-live]")) followJob(element);
for (const element of document.querySelectorAll("[data-poll]")) pollList(element);
const compose = document.getElementById("compose");
if (compose) composeCommand(compose);

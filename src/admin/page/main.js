// Refreshes the page about once a second while its tab is visible.

const INTERVAL = 1000;
/** Health changes and rejections are fetched with every other refresh, and whenever a backend has changed. */
const EVENTS_EVERY = 2;

let [paused, refreshing, wakeUp, refreshes] = [false, false, null, 0];
let last = null;
let lastResponse = null;

const showFreshness = (error) => {
  const text = paused ? "paused" : error === null ? "live" : lastResponse === null ? "no response yet" : `no response for ${duration((Date.now() - lastResponse) / 1000)}`;
  setText(byId("freshness"), text);
  const banner = byId("trouble");
  setText(banner, error === null ? "" : `No response (${error}). ${lastResponse === null ? "There is no data yet." : `Data is stale, from ${clock(lastResponse)}.`}`);
  show(banner, error !== null);
  document.body.classList.toggle("paused", paused);
  document.body.classList.toggle("stale", error !== null);
  if (error !== null) showNoResponse();
};

const showAll = (status) => {
  if (last !== null && last.started !== status.started) {
    history.clear();
    previous.clear();
  }
  last = status;
  const at = Date.parse(status.now) / 1000;
  const rates = showPools(status, at);
  showHead(status);
  showTiles(status, at, rates);
  showListeners(status.listeners.map((listener) => ({ ...listener, serves: serves(listener, status.pools) })), shapeOfListener, at);
  showPins(status.affinity, ({ group }) => group, at);
  show(byId("pins"), status.affinity.length > 0);
  show(byId("no-pins"), status.affinity.length === 0);
  fillExplainForm(status);
  history.sweep(at);
};

const refresh = async () => {
  const status = await request("/api/v1/status");
  lastResponse = Date.now();
  showAll(status);
  const changed = announceChanges(status);
  if (changed || refreshes % EVENTS_EVERY === 0) {
    const { health, refusals } = await request("/api/v1/events");
    showHealthEvents(health);
    showRejections(refusals);
  }
  refreshes += 1;
};

/** Never two refreshes at once: a slow response delays the next refresh and adds no load. */
const keepRefreshing = async () => {
  if (refreshing) return;
  refreshing = true;
  while (!paused && !document.hidden) {
    let problem = null;
    try {
      await refresh();
    } catch (error) {
      if (!(error instanceof RequestError)) console.error(error);
      if (error.status === 401) await signIn();
      else problem = error.message;
    }
    showFreshness(problem);
    show(byId("sign-out"), token.get() !== null);
    await new Promise((resolve) => {
      wakeUp = resolve;
      setTimeout(resolve, INTERVAL);
    });
  }
  refreshing = false;
  showFreshness(null);
};

const refreshNow = () => (refreshing ? wakeUp?.() : keepRefreshing());

document.addEventListener("visibilitychange", () => document.hidden || keepRefreshing());
byId("pause").addEventListener("click", () => {
  paused = !paused;
  setAttribute(byId("pause"), "aria-pressed", String(paused));
  refreshNow();
});
byId("sign-out").addEventListener("click", () => {
  token.forget();
  location.reload();
});
for (const [id, kind] of [["filter", "input"], ["problems-only", "change"]]) {
  byId(id).addEventListener(kind, () => {
    if (last === null) return;
    showPools(last, Date.parse(last.now) / 1000);
    if (filter().text !== "" || filter().problems) expandAll(true);
  });
}
document.addEventListener("keydown", (event) => {
  const typing = event.target.closest?.("input, select, textarea, dialog");
  if (event.key !== "/" || event.ctrlKey || event.metaKey || event.altKey || typing) return;
  event.preventDefault();
  byId("filter").focus();
});
keepRefreshing();

// The pulse: looks about once a second, while somebody looks at the page.

const EVERY = 1000;
/** Health events and refusals are asked for at every other look, and whenever a backend changed. */
const EVENTS_EVERY = 2;

let [paused, looking, wakeUp, looks] = [false, false, null, 0];
let last = null;
let answered = null;

const showFreshness = (fault) => {
  const text = paused ? "paused" : fault === null ? "live" : answered === null ? "no answer yet" : `no answer for ${lasting((Date.now() - answered) / 1000)}`;
  say(byId("freshness"), text);
  const banner = byId("trouble");
  say(banner, fault === null ? "" : `No answer (${fault}). ${answered === null ? "Nothing is known yet." : `Data is stale: from ${clock(answered)}.`}`);
  show(banner, fault !== null);
  document.body.classList.toggle("paused", paused);
  document.body.classList.toggle("stale", fault !== null);
  if (fault !== null) showNoAnswer();
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
  offerToExplain(status);
  history.sweep(at);
};

const look = async () => {
  const status = await ask("/api/v1/status");
  answered = Date.now();
  showAll(status);
  const changed = announceChanges(status);
  if (changed || looks % EVENTS_EVERY === 0) {
    const { health, refusals } = await ask("/api/v1/events");
    showHealthEvents(health);
    showRefusals(refusals);
  }
  looks += 1;
};

/** One look after the other, never two at once; a slow answer makes the pulse slower, not the balancer busier. */
const pulse = async () => {
  if (looking) return;
  looking = true;
  while (!paused && !document.hidden) {
    let fault = null;
    try {
      await look();
    } catch (error) {
      if (!(error instanceof Refused)) console.error(error);
      if (error.status === 401) await askForToken();
      else fault = error.message;
    }
    showFreshness(fault);
    show(byId("forget"), token.get() !== null);
    await new Promise((resolve) => {
      wakeUp = resolve;
      setTimeout(resolve, EVERY);
    });
  }
  looking = false;
  showFreshness(null);
};

const lookNow = () => (looking ? wakeUp?.() : pulse());

document.addEventListener("visibilitychange", () => document.hidden || pulse());
byId("pause").addEventListener("click", () => {
  paused = !paused;
  mark(byId("pause"), "aria-pressed", String(paused));
  lookNow();
});
byId("forget").addEventListener("click", () => {
  token.forget();
  location.reload();
});
for (const [id, kind] of [["filter", "input"], ["only-trouble", "change"]]) {
  byId(id).addEventListener(kind, () => {
    if (last === null) return;
    showPools(last, Date.parse(last.now) / 1000);
    if (filter().text !== "" || filter().trouble) openAll(true);
  });
}
document.addEventListener("keydown", (event) => {
  const typing = event.target.closest?.("input, select, textarea, dialog");
  if (event.key !== "/" || event.ctrlKey || event.metaKey || event.altKey || typing) return;
  event.preventDefault();
  byId("filter").focus();
});
pulse();

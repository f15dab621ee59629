// The overview: the head of the page, the tiles, the listeners and the affinity tables.

const TILES = [
  ["Connections", ["first"]],
  ["To clients", ["first"]],
  ["To backends", ["second"]],
  ["Backends in service", ["first"]],
  ["Pins", ["first"]],
  ["Next certificate expires in", null],
];

const tiles = TILES.map(([name, kinds]) => {
  const value = element("strong");
  const note = element("span", { class: "quiet" });
  const curve = kinds === null ? null : chart(kinds);
  const tile = element("li", { class: "card tile" }, element("span", { class: "name" }, name), value, note);
  if (curve !== null) tile.append(curve.whole);
  byId("tiles").append(tile);
  return { name, tile, value, note, curve };
});

const setTile = (index, at, value, text, note, tone = "plain") => {
  const { name, tile, value: shown, note: beside, curve } = tiles[index];
  setAttribute(tile, "data-tone", tone);
  setText(shown, text);
  setText(beside, note);
  if (curve === null) return;
  if (value !== null) history.add(`tile ${name}`, at, value);
  curve.draw(at, [history.of(`tile ${name}`)]);
};

const showHead = (status) => {
  setText(byId("version"), `${status.version} · ${counted(status.workers, "worker")} · up ${duration(seconds(status.started, status.now))}`);
  const ready = byId("ready");
  const { word, tone } = readiness(status);
  setText(ready, word);
  setAttribute(ready, "data-tone", tone);
  const older = status.predecessors;
  show(byId("older"), older.length > 0);
  setText(byId("older"), older.map(olderProcess).join("; "));
};

/** An older process with connections from before an upgrade. */
const olderProcess = ({ pid, answers, connections, until }) => {
  const left = until === null ? "" : `, reset at ${new Date(until).toLocaleTimeString("en")}`;
  return `Older process ${pid}: ${counted(connections, "connection")} from before an upgrade${left}${answers ? "" : ", does not respond"}`;
};

/** Green only if every backend is in service. */
const readiness = (status) => {
  if (status.stopping) return { word: "Stopping", tone: "bad" };
  if (!status.ready) return { word: "Not ready", tone: "bad" };
  const backends = status.pools.flatMap((pool) => pool.backends);
  const down = backends.filter((backend) => backend.health === "down").length;
  const out = backends.filter((backend) => !inService(backend)).length;
  const closed = status.listeners.filter((listener) => !listener.open).length;
  if (closed > 0) return { word: `Ready, ${counted(closed, "listener")} closed`, tone: "bad" };
  if (down > 0) return { word: `Ready, ${count(down)} of ${count(backends.length)} down`, tone: "warn" };
  if (out > 0) return { word: `Ready, ${count(out)} of ${count(backends.length)} out of service`, tone: "warn" };
  return { word: "Ready", tone: "good" };
};

/** The head of the page while there is no response. */
const showNoResponse = () => {
  setText(byId("ready"), "No response");
  setAttribute(byId("ready"), "data-tone", "bad");
  document.title = "(no response) lyncpin";
};

const showTiles = (status, at, rates) => {
  const backends = status.pools.flatMap((pool) => pool.backends.map((backend) => ({ ...backend, pool: pool.name })));
  const { connections } = status;
  const most = status.limits.connections;
  setTile(0, at, connections, count(connections), most === null ? "no limit" : `of ${count(most)}`);
  const inAll = (field) => `${bytes(backends.reduce((sum, backend) => sum + backend[field], 0))} total`;
  setTile(1, at, rates.toClient, rate(rates.toClient), inAll("bytes_to_client"));
  setTile(2, at, rates.toBackend, rate(rates.toBackend), inAll("bytes_to_backend"));
  const serving = backends.filter(inService).length;
  const down = backends.filter((backend) => backend.health === "down").length;
  const tone = down > 0 ? "bad" : serving < backends.length ? "warn" : "good";
  const note = down > 0 ? `${count(down)} down` : serving < backends.length ? "not all" : "all";
  setTile(3, at, serving, `${count(serving)} of ${count(backends.length)}`, note, tone);
  const pins = status.affinity.reduce((sum, table) => sum + table.entries, 0);
  setTile(4, at, pins, count(pins), status.affinity.length === 1 ? "in one group" : `in ${status.affinity.length} groups`);
  const ends = backends.map((backend) => ({ backend, end: expiry(backend) })).filter(({ end }) => end !== null);
  ends.sort((a, b) => Date.parse(a.end) - Date.parse(b.end));
  if (ends.length === 0) {
    setTile(5, at, null, "–", "no certificate seen by checks");
  } else {
    const { backend, end } = ends[0];
    const left = validity(end, status.now);
    setTile(5, at, null, left.text.replace(" left", ""), `${day(end)}, ${backend.name} in ${backend.pool}`, left.tone);
  }
  document.title = down > 0 ? `(${down} down) lyncpin` : "lyncpin";
};

const listenerRow = (listener) => {
  const state = badge();
  const number = element("span", { class: "number" });
  const curve = chart(["first"]);
  const where = element("small", { class: "quiet" }, `${listener.protocol} on ${listener.bind.join(", ")}`);
  const route = (pool, names) => element("li", {}, `→ ${pool} `, element("small", { class: "quiet" }, names));
  const routes = listener.routes.map(({ pool, names }) => route(pool, names.join(", ")));
  for (const [what, pool] of [["no name", listener.no_name], ["other names", listener.unknown_name], ["all clients", listener.pool]]) {
    if (pool !== null) routes.push(route(pool, what));
  }
  const whole = row(
    headCell("Listener", element("span", { class: "title" }, listener.name), where),
    cell("State", state.whole),
    cell("Connections", element("span", { class: "measured" }, number, curve.whole)),
    cell("Routes", element("ul", { class: "plain" }, ...routes)),
  );
  return {
    whole,
    update(now, at) {
      state.set(
        !now.open
          ? { word: "Closed", icon: "down", tone: "bad" }
          : now.serves
            ? { word: "Open", icon: "up", tone: "good" }
            : { word: "Open, rejects all clients", icon: "down", tone: "bad" },
      );
      setText(number, count(now.connections));
      history.add(`listener ${now.name}`, at, now.connections);
      curve.draw(at, [history.of(`listener ${now.name}`)]);
    },
  };
};

const pinsRow = (table) => {
  const number = element("span", { class: "number" });
  const curve = chart(["first"]);
  const most = element("span");
  const whole = row(
    headCell("Group", element("span", { class: "title" }, table.group)),
    cell("Pins", element("span", { class: "measured" }, number, curve.whole)),
    cell("Limit", most),
  );
  return {
    whole,
    update(now, at) {
      setText(number, count(now.entries));
      setText(most, `${count(now.max_entries)} (${((100 * now.entries) / now.max_entries).toFixed(1)} %)`);
      history.add(`pins ${now.group}`, at, now.entries);
      curve.draw(at, [history.of(`pins ${now.group}`)]);
    },
  };
};

/** Rows that are reused until the configuration of their items changes. */
const rowsOf = (body, make) => {
  let known = "";
  let rows = [];
  return (items, shape, at) => {
    const now = JSON.stringify(items.map(shape));
    if (now !== known) {
      known = now;
      rows = items.map(make);
      body.replaceChildren(...rows.map((made) => made.whole));
    }
    items.forEach((item, index) => rows[index].update(item, at));
  };
};

const showListeners = rowsOf(byId("listeners").tBodies[0], listenerRow);
const showPins = rowsOf(byId("pins").tBodies[0], pinsRow);
const shapeOfListener = ({ open, connections, serves, ...rest }) => rest;

/** Whether a pool behind a listener can serve; an open port without one (`when_pool_down: refuse`) rejects all clients. */
const serves = (listener, pools) => {
  const names = [...listener.routes.map((route) => route.pool), listener.no_name, listener.unknown_name, listener.pool];
  const known = pools.filter((pool) => names.includes(pool.name));
  return known.length === 0 || known.some((pool) => pool.can_serve);
};

// The balancer as a whole: the head of the page, its tiles, listeners and tables of pins.

const TILES = [
  ["Connections", ["first"]],
  ["To clients", ["first"]],
  ["To backends", ["second"]],
  ["Backends in service", ["first"]],
  ["Pins", ["first"]],
  ["Next certificate ends in", null],
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

const setTile = (place, at, value, text, note, tone = "plain") => {
  const { name, tile, value: shown, note: beside, curve } = tiles[place];
  mark(tile, "data-tone", tone);
  say(shown, text);
  say(beside, note);
  if (curve === null) return;
  if (value !== null) history.add(`tile ${name}`, at, value);
  curve.draw(at, [history.of(`tile ${name}`)]);
};

const showHead = (status) => {
  say(byId("version"), `${status.version} · ${counted(status.workers, "worker")} · up ${lasting(seconds(status.started, status.now))}`);
  const ready = byId("ready");
  const { word, tone } = readiness(status);
  say(ready, word);
  mark(ready, "data-tone", tone);
  const older = status.predecessors;
  show(byId("older"), older.length > 0);
  say(byId("older"), older.map(olderProcess).join("; "));
};

/** An older process, which has connections from before an upgrade. */
const olderProcess = ({ pid, answers, connections, until }) => {
  const left = until === null ? "" : `, what is left is reset at ${new Date(until).toLocaleTimeString("en")}`;
  return `Older process ${pid}: ${counted(connections, "connection")} from before an upgrade${left}${answers ? "" : ", does not answer"}`;
};

/** Green is only what is whole: ready, with every backend in service. */
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

/** The head of the page while there is no answer. */
const showNoAnswer = () => {
  say(byId("ready"), "No answer");
  mark(byId("ready"), "data-tone", "bad");
  document.title = "(no answer) lyncpin";
};

const showTiles = (status, at, rates) => {
  const backends = status.pools.flatMap((pool) => pool.backends.map((backend) => ({ ...backend, pool: pool.name })));
  const { connections } = status;
  const most = status.limits.connections;
  setTile(0, at, connections, count(connections), most === null ? "no bound" : `of ${count(most)}`);
  const inAll = (field) => `${bytes(backends.reduce((sum, backend) => sum + backend[field], 0))} in all`;
  setTile(1, at, rates.toClient, rate(rates.toClient), inAll("bytes_to_client"));
  setTile(2, at, rates.toBackend, rate(rates.toBackend), inAll("bytes_to_backend"));
  const serving = backends.filter(inService).length;
  const down = backends.filter((backend) => backend.health === "down").length;
  const tone = down > 0 ? "bad" : serving < backends.length ? "warn" : "good";
  const note = down > 0 ? `${count(down)} down` : serving < backends.length ? "not all" : "all of them";
  setTile(3, at, serving, `${count(serving)} of ${count(backends.length)}`, note, tone);
  const pins = status.affinity.reduce((sum, table) => sum + table.entries, 0);
  setTile(4, at, pins, count(pins), status.affinity.length === 1 ? "in one group" : `in ${status.affinity.length} groups`);
  const ends = backends.map((backend) => ({ backend, end: expiry(backend) })).filter(({ end }) => end !== null);
  ends.sort((a, b) => Date.parse(a.end) - Date.parse(b.end));
  if (ends.length === 0) {
    setTile(5, at, null, "–", "no check has seen one");
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
  const lead = (pool, names) => element("li", {}, `→ ${pool} `, element("small", { class: "quiet" }, names));
  const leads = listener.routes.map((route) => lead(route.pool, route.names.join(", ")));
  for (const [what, pool] of [["no name", listener.no_name], ["any other name", listener.unknown_name], ["everything", listener.pool]]) {
    if (pool !== null) leads.push(lead(pool, what));
  }
  const whole = row(
    headCell("Listener", element("span", { class: "title" }, listener.name), where),
    cell("State", state.whole),
    cell("Connections", element("span", { class: "measured" }, number, curve.whole)),
    cell("Leads to", element("ul", { class: "plain" }, ...leads)),
  );
  return {
    whole,
    update(now, at) {
      state.set(
        !now.open
          ? { word: "Closed", icon: "down", tone: "bad" }
          : now.serves
            ? { word: "Open", icon: "up", tone: "good" }
            : { word: "Open, rejects all", icon: "down", tone: "bad" },
      );
      say(number, count(now.connections));
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
    cell("Of at most", most),
  );
  return {
    whole,
    update(now, at) {
      say(number, count(now.entries));
      say(most, `${count(now.max_entries)} (${((100 * now.entries) / now.max_entries).toFixed(1)} %)`);
      history.add(`pins ${now.group}`, at, now.entries);
      curve.draw(at, [history.of(`pins ${now.group}`)]);
    },
  };
};

/** Rows that stay while what they stand for stays as it was configured. */
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

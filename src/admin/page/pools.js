// The pools: a card for each that expands, with an icon for every backend in its header, so that hundreds fit on a screen.

/** Up to this many pools are expanded at first; of more, only those with problems. */
const EXPANDED_AT_FIRST = 6;
const COLUMNS = ["Backend", "State", "Checks", "Connections", "Traffic", "Certificate", "Change"];

const cards = new Map();
const previous = new Map();

/** Records the samples of a backend, expanded or not, so that its charts begin with the page. */
const measure = (key, backend, at) => {
  const before = previous.get(key);
  // The same status, shown again with another filter.
  if (before?.at === at) return before.rates;
  const now = { at, down: backend.bytes_to_client, up: backend.bytes_to_backend, rates: { toClient: null, toBackend: null } };
  previous.set(key, now);
  history.add(`${key} held`, at, backend.connections);
  if (before === undefined || at < before.at || now.down < before.down || now.up < before.up) return now.rates;
  const over = at - before.at;
  now.rates = { toClient: (now.down - before.down) / over, toBackend: (now.up - before.up) / over };
  history.add(`${key} down`, at, now.rates.toClient);
  history.add(`${key} up`, at, now.rates.toBackend);
  return now.rates;
};

/** An icon for each backend. Hidden from screen readers, which get the numbers beside it. */
const signs = () => {
  const whole = element("span", { class: "signs", "aria-hidden": "true" });
  return {
    whole,
    update(backends) {
      while (whole.childElementCount > backends.length) whole.lastChild.remove();
      while (whole.childElementCount < backends.length) {
        whole.append(element("span", { class: "sign" }, svgElement("svg", { class: "icon" }, svgElement("use"))));
      }
      backends.forEach((backend, index) => {
        const sign = whole.children[index];
        const state = backend.health === "up" ? (administrativeState(backend) ?? condition(backend)) : condition(backend);
        setAttribute(sign, "data-tone", state.tone);
        setAttribute(sign, "title", `${backend.name}: ${state.word}`);
        setAttribute(sign.querySelector("use"), "href", `#i-${state.icon}`);
      });
    },
  };
};

const tableOf = (name) => {
  const heads = COLUMNS.map((column) => element("th", { role: "columnheader", scope: "col" }, column));
  const head = element("thead", { role: "rowgroup" }, row(...heads));
  const body = element("tbody", { role: "rowgroup" });
  const table = element("table", { role: "table", class: "backends", "aria-label": `Backends of ${name}` }, head, body);
  return { table, body };
};

const elsewhere = (pool) => (backend) =>
  [...cards.values()].filter((card) => card.name !== pool && card.has(backend)).map((card) => card.name);

const poolCard = (first) => {
  const { name } = first;
  const small = signs();
  const facts = element("small", { class: "quiet" });
  const service = badge();
  const number = element("span", { class: "number" });
  const noun = element("small", { class: "quiet" });
  const curve = chart(["first"]);
  const title = element("h3", {}, name);
  const summary = element(
    "summary",
    {},
    element("span", { class: "who" }, title, facts),
    small.whole,
    service.whole,
    element("span", { class: "measured" }, element("span", {}, number, " ", noun), curve.whole),
  );
  const whole = element("details", { class: "card pool", "data-pool": name }, summary);
  const rows = new Map();
  let [latest, body, redraw] = [first, null, () => {}];
  whole.addEventListener("toggle", () => whole.open && redraw());

  const showRows = (pool, now, at, measured, shown) => {
    if (body === null) {
      const made = tableOf(name);
      body = made.body;
      whole.append(made.table);
    }
    for (const backend of pool.backends) {
      const shape = `${backend.configured} ${backend.checks.length}`;
      let known = rows.get(backend.name);
      if (known?.shape !== shape) {
        const made = { ...backendRow(backend, name, elsewhere(name)), shape };
        if (known === undefined) body.append(made.whole);
        else known.whole.replaceWith(made.whole);
        known?.gone();
        rows.set(backend.name, (known = made));
      }
      known.update({ backend, at: now }, at, measured.get(backend.name));
      show(known.whole, shown(backend));
    }
    for (const [known, { whole: gone }] of rows) {
      if (pool.backends.some((backend) => backend.name === known)) continue;
      gone.remove();
      rows.delete(known);
    }
  };

  const update = (pool, pools, now, at, shown) => {
    latest = pool;
    const measured = new Map(
      pool.backends.map((backend) => {
        const key = `backend ${JSON.stringify([name, backend.name])}`;
        return [backend.name, { key, rates: measure(key, backend, at) }];
      }),
    );
    const group = pool.affinity_group === null ? "no affinity" : `pins in ${pool.affinity_group}`;
    const backup = pool.backup === null ? "" : ` · backup ${pool.backup}`;
    setText(facts, `${pool.balance.replaceAll("_", " ")} · ${group}${backup}`);
    small.update(pool.backends);
    const serving = pool.backends.filter(inService).length;
    const of = `${serving} of ${pool.backends.length} in service`;
    const complete = serving === pool.backends.length;
    const limited = limitation(pool, pools);
    service.set(
      !pool.can_serve
        ? { word: `${of}, cannot serve`, icon: "down", tone: "bad" }
        : limited === null
          ? { word: of, icon: complete ? "up" : "warn", tone: complete ? "good" : "warn" }
          : { word: `${of}, ${limited}`, icon: "warn", tone: "warn" },
    );
    const held = pool.backends.reduce((sum, backend) => sum + backend.connections, 0);
    setText(number, count(held));
    setText(noun, held === 1 ? "connection" : "connections");
    history.add(`pool ${name}`, at, held);
    curve.draw(at, [history.of(`pool ${name}`)]);
    redraw = () => showRows(pool, now, at, measured, shown);
    if (whole.open) redraw();
    return measured;
  };
  const has = (backend) => latest.backends.some((known) => known.name === backend);
  return { name, whole, update, has, gone: () => rows.forEach((made) => made.gone()) };
};

const filter = () => ({ text: byId("filter").value.trim().toLowerCase(), problems: byId("problems-only").checked });

/** Which backends of a pool match the filter. */
const matches = ({ text, problems }, pool) => {
  const whole = pool.name.toLowerCase().includes(text);
  return (backend) => {
    if (problems && inService(backend)) return false;
    const names = [backend.name, backend.configured, backend.address ?? ""];
    return whole || names.some((known) => known.toLowerCase().includes(text));
  };
};

/** Shows all pools; returns the bytes per second of all backends together. */
const showPools = (status, at) => {
  const wanted = filter();
  const filtered = wanted.text !== "" || wanted.problems;
  const sum = { toClient: null, toBackend: null };
  let matching = 0;
  for (const pool of status.pools) {
    const shown = matches(wanted, pool);
    let card = cards.get(pool.name);
    if (card === undefined) {
      cards.set(pool.name, (card = poolCard(pool)));
      card.whole.open = status.pools.length <= EXPANDED_AT_FIRST || !pool.can_serve;
    }
    // Only cards that have moved are inserted again, because that removes the focus inside them.
    if (byId("pools").children[status.pools.indexOf(pool)] !== card.whole) byId("pools").append(card.whole);
    for (const { rates } of card.update(pool, status.pools, status.now, at, shown).values()) {
      if (rates.toClient === null) continue;
      sum.toClient += rates.toClient;
      sum.toBackend += rates.toBackend;
    }
    const fits = !filtered || pool.backends.some(shown);
    show(card.whole, fits);
    matching += fits ? 1 : 0;
  }
  show(byId("no-pools"), matching === 0);
  for (const [name, card] of cards) {
    if (status.pools.some((pool) => pool.name === name)) continue;
    card.whole.remove();
    card.gone();
    cards.delete(name);
  }
  return sum;
};

const expandAll = (open) => {
  for (const card of cards.values()) if (!card.whole.hidden) card.whole.open = open;
};
byId("expand-all").addEventListener("click", () => expandAll(true));
byId("collapse-all").addEventListener("click", () => expandAll(false));

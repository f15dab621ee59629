// A row for one backend of one pool: state, checks, charts, and the buttons for changes.

/** Only visible rows are drawn: a large site has hundreds. */
const visibility = new IntersectionObserver((changes) => {
  for (const change of changes) change.target.dataset.visible = change.isIntersecting ? "yes" : "";
});

const checkLine = () => {
  const sign = badge();
  const detail = element("span");
  const note = element("small", { class: "quiet" });
  const whole = element("li", {}, sign.whole, element("span", {}, detail, note));
  return {
    whole,
    update(check, now) {
      const state = new Map([
        [true, { icon: "up", tone: "good" }],
        [false, { icon: "down", tone: check.decides ? "bad" : "warn" }],
        [null, { icon: "unknown", tone: "quiet" }],
      ]).get(check.passing);
      sign.set({ ...state, word: check.label });
      setText(detail, check.detail);
      const result = { true: "passes", false: "fails", null: "no result" }[check.passing];
      const observed = check.decides ? "" : "observed only · ";
      const pending = check.decides && check.against > 0 ? ` · ${check.against} of ${check.needed} before it counts` : "";
      const took = check.passing === null ? "" : ` · ${milliseconds(check.took_seconds)}`;
      setText(note, `${observed}${result} for ${duration(seconds(check.since, now))}${pending}${took}`);
    },
  };
};

const buttons = (key, pool, elsewhere, current) =>
  ["drain", "maintain", "ready"].map((state) => {
    const { verb } = CHANGES[state];
    const { name } = key;
    const button = element("button", { type: "button", "data-state": state, "aria-label": `${verb}: ${name} in ${pool}` }, verb);
    button.addEventListener("click", () => {
      if (button.getAttribute("aria-disabled") !== "true") confirmChange(state, current(), pool, elsewhere(name));
    });
    return button;
  });

const backendRow = (first, pool, elsewhere) => {
  let latest = first;
  const [health, administrative] = [badge(), badge()];
  const since = element("small", { class: "quiet" });
  const why = element("small", { class: "why" });
  const address = element("small", { class: "quiet" });
  const checks = element("ul", { class: "plain checks" });
  const lines = first.checks.map(checkLine);
  checks.append(...lines.map((line) => line.whole));
  const number = element("span", { class: "number" });
  const limit = element("span", { class: "quiet" });
  const held = chart(["first"]);
  const [down, up, total] = [element("span"), element("span"), element("small", { class: "quiet", title: "since the balancer started" })];
  const moved = chart(["first", "second"]);
  const pins = element("small", { class: "quiet" });
  const weight = element("small", { class: "quiet" });
  const certificate = element("span");
  const end = element("small", { class: "quiet" });
  const actions = buttons(first, pool, elsewhere, () => latest);
  const whole = row(
    headCell("Backend", element("span", { class: "title" }, first.name), address, weight),
    cell("State", element("span", { class: "badges" }, health.whole, administrative.whole), since, why),
    cell("Checks", checks),
    cell("Connections", element("span", {}, number, " ", limit), held.whole, pins),
    cell("Traffic", element("span", { class: "both" }, down, up), moved.whole, total),
    cell("Certificate", certificate, end),
    cell("Change", element("span", { class: "acts" }, ...actions)),
  );
  visibility.observe(whole);

  const update = (now, at, keyed) => {
    latest = now.backend;
    const backend = latest;
    setAttribute(whole, "data-health", backend.health);
    health.set(condition(backend));
    administrative.set(administrativeState(backend));
    setText(address, backend.address === null ? `${backend.configured}, not resolved` : `${backend.address}`);
    setAttribute(address, "title", backend.configured);
    const share = backend.effective_weight === backend.weight ? "" : `, now ${backend.effective_weight.toFixed(2).replace(/\.?0+$/, "")}`;
    setText(weight, `weight ${backend.weight}${share}`);
    setText(since, `for ${duration(seconds(backend.since, now.at))}, since ${clock(backend.since)}`);
    setText(why, backend.why);
    backend.checks.forEach((check, index) => lines[index]?.update(check, now.at));
    setText(number, count(backend.connections));
    setText(limit, backend.max_connections === null ? "" : `of ${count(backend.max_connections)}`);
    setText(down, `↓ ${rate(keyed.rates.toClient)}`);
    setText(up, `↑ ${rate(keyed.rates.toBackend)}`);
    setText(total, `${bytes(backend.bytes_to_client)} ↓ ${bytes(backend.bytes_to_backend)} ↑`);
    setText(pins, backend.pins === null ? "" : counted(backend.pins, "pin"));
    showCertificate(backend, now.at);
    for (const button of actions) {
      const { state } = button.dataset;
      setAttribute(button, "aria-disabled", String(state === backend.state && state !== "drain"));
    }
    if (whole.dataset.visible !== "yes") return;
    held.draw(at, [history.of(`${keyed.key} held`)]);
    moved.draw(at, [history.of(`${keyed.key} down`), history.of(`${keyed.key} up`)]);
  };
  const showCertificate = (backend, now) => {
    const last = expiry(backend);
    const left = last === null ? { text: "–", tone: "plain" } : validity(last, now);
    setText(certificate, left.tone === "plain" ? left.text : `⚠ ${left.text}`);
    setAttribute(certificate, "data-tone", left.tone);
    setText(end, last === null ? "" : day(last));
  };
  return { whole, update, gone: () => visibility.unobserve(whole) };
};

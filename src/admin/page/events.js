// The recent events: health changes of backends, and rejections.

/** Refills a table when its events have changed; the newest comes first. */
const eventsOf = (id, make) => {
  const table = byId(id);
  const none = table.parentElement.querySelector("p");
  let known = null;
  return (items) => {
    const now = JSON.stringify(items);
    if (now === known) return;
    known = now;
    table.tBodies[0].replaceChildren(...items.map(make));
    show(table, items.length > 0);
    show(none, items.length === 0);
  };
};

const showHealthEvents = eventsOf("health", (event) => {
  const sign = badge();
  sign.set(condition({ health: event.health, damped_until: null }));
  return row(
    cell("Time", moment(event.at)),
    headCell("Backend", `${event.backend} `, element("small", { class: "quiet" }, event.pool)),
    cell("Health", sign.whole),
    cell("Why", event.why),
  );
});

const showRejections = eventsOf("rejections", (rejection) =>
  row(
    cell("Time", moment(rejection.at)),
    cell("Client", rejection.client, element("small", { class: "quiet" }, `at ${rejection.listener}`)),
    cell("Name", rejection.name ?? "–"),
    cell("Outcome", element("code", {}, rejection.outcome), element("small", { class: "quiet" }, rejection.detail ?? "")),
  ),
);

/** Announces health changes since the last refresh, for screen readers. */
const announceChanges = (() => {
  let before = null;
  return (status) => {
    const now = new Map();
    for (const pool of status.pools) {
      for (const backend of pool.backends) now.set(`${backend.name} in ${pool.name}`, backend);
    }
    const changed = [...now].filter(([name, { health }]) => before?.has(name) && before.get(name).health !== health);
    before = now;
    if (changed.length === 0) return false;
    const texts = changed.slice(0, 5).map(([name, backend]) => `${name} is ${backend.health}: ${backend.why}`);
    if (changed.length > texts.length) texts.push(`and ${changed.length - texts.length} more`);
    setText(byId("announcements"), texts.join("; "));
    return true;
  };
})();

// What was, kept in this tab alone: samples of the last two minutes, and the small charts drawn of them.

const WINDOW = 120;
/** A page that has just been opened stretches what it has, down to so many seconds. */
const SHORTEST = 15;

/** Values over time, by name. */
class History {
  #series = new Map();

  add(name, at, value) {
    let series = this.#series.get(name);
    if (series === undefined) this.#series.set(name, (series = []));
    series.push([at, value]);
    while (series[0][0] < at - WINDOW) series.shift();
  }

  of(name) {
    return this.#series.get(name) ?? [];
  }

  /** Forgets what nobody has added to for as long as a chart shows. */
  sweep(now) {
    for (const [name, series] of this.#series) if (series.at(-1)[0] < now - WINDOW) this.#series.delete(name);
  }

  clear() {
    this.#series.clear();
  }
}

/** A chart of one or two series; decoration, since the number beside it says what is now. */
const chart = (kinds) => {
  const [width, height] = [120, 30];
  const paths = kinds.map((kind) => [
    drawn("path", { class: `area ${kind}` }),
    drawn("path", { class: `curve ${kind}` }),
  ]);
  const whole = drawn(
    "svg",
    { class: "chart", viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none", "aria-hidden": "true" },
    ...paths.flat(),
  );
  const draw = (now, all) => {
    const most = Math.max(1, ...all.flat().map(([, value]) => value));
    const oldest = Math.min(now, ...all.map((series) => series[0]?.[0] ?? now));
    const shown = Math.min(WINDOW, Math.max(SHORTEST, now - oldest));
    all.forEach((series, index) => {
      const points = series.map(([at, value]) => {
        const x = Math.max(0, width - ((now - at) / shown) * width);
        return `${x.toFixed(1)},${(height - 2 - (value / most) * (height - 5)).toFixed(1)}`;
      });
      const [area, curve] = paths[index];
      if (points.length < 2) return;
      const first = points[0].split(",")[0];
      mark(curve, "d", `M${points.join("L")}`);
      mark(area, "d", `M${first},${height}L${points.join("L")}L${width},${height}Z`);
    });
  };
  return { whole, draw };
};

const history = new History();

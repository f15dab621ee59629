// The samples of the last two minutes, stored in this tab only, and the small charts of them.

const WINDOW = 120;
/** A new page has few samples: a chart is at least this many seconds wide. */
const MIN_WINDOW = 15;

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

  /** Removes the series without samples in the window. */
  sweep(now) {
    for (const [name, series] of this.#series) if (series.at(-1)[0] < now - WINDOW) this.#series.delete(name);
  }

  clear() {
    this.#series.clear();
  }
}

/** A chart of one or two series. It is decoration: the number beside it is the current value. */
const chart = (kinds) => {
  const [width, height] = [120, 30];
  const paths = kinds.map((kind) => [
    svgElement("path", { class: `area ${kind}` }),
    svgElement("path", { class: `curve ${kind}` }),
  ]);
  const whole = svgElement(
    "svg",
    { class: "chart", viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none", "aria-hidden": "true" },
    ...paths.flat(),
  );
  const draw = (now, all) => {
    const most = Math.max(1, ...all.flat().map(([, value]) => value));
    const oldest = Math.min(now, ...all.map((series) => series[0]?.[0] ?? now));
    const shown = Math.min(WINDOW, Math.max(MIN_WINDOW, now - oldest));
    all.forEach((series, index) => {
      const points = series.map(([at, value]) => {
        const x = Math.max(0, width - ((now - at) / shown) * width);
        return `${x.toFixed(1)},${(height - 2 - (value / most) * (height - 5)).toFixed(1)}`;
      });
      const [area, curve] = paths[index];
      if (points.length < 2) return;
      const first = points[0].split(",")[0];
      setAttribute(curve, "d", `M${points.join("L")}`);
      setAttribute(area, "d", `M${first},${height}L${points.join("L")}L${width},${height}Z`);
    });
  };
  return { whole, draw };
};

const history = new History();

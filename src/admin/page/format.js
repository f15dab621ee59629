// How numbers, times and states are written. Pure functions.

const BYTES = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];

const count = (value) => Math.round(value).toLocaleString("en");

/** A number and its noun: "1 pin", "2 pins". */
const counted = (value, noun) => `${count(value)} ${noun}${value === 1 ? "" : "s"}`;

const bytes = (value) => {
  let power = 0;
  while (value >= 1024 && power < BYTES.length - 1) {
    value /= 1024;
    power += 1;
  }
  return `${power > 0 && value < 100 ? value.toFixed(1) : Math.round(value)} ${BYTES[power]}`;
};

const rate = (value) => (value === null ? "–" : `${bytes(value)}/s`);

/** The two largest units of a time in seconds: "3 d 4 h", "12 s". */
const duration = (seconds) => {
  let left = Math.max(0, Math.round(seconds));
  const parts = [];
  for (const [unit, length] of [["d", 86400], ["h", 3600], ["min", 60], ["s", 1]]) {
    const whole = Math.floor(left / length);
    left -= whole * length;
    if (whole > 0 || (unit === "s" && parts.length === 0)) parts.push(`${whole} ${unit}`);
  }
  return parts.slice(0, 2).join(" ");
};

const seconds = (from, to) => (Date.parse(to) - Date.parse(from)) / 1000;

/** In the time zone of the browser; with the date if it is not today. */
const clock = (time) => {
  const date = new Date(time);
  const today = date.toDateString() === new Date().toDateString();
  const hours = date.toLocaleTimeString("en-GB");
  return today ? hours : `${date.toLocaleDateString("en-CA")} ${hours}`;
};

const day = (time) => new Date(time).toLocaleDateString("en-CA");

const milliseconds = (took) => (took < 0.0095 ? `${(took * 1000).toFixed(1)} ms` : `${Math.round(took * 1000)} ms`);

/** Health and damping, as one word with its icon. */
const condition = (backend) => {
  if (backend.damped_until !== null) return { word: "Damped", icon: "damped", tone: "warn" };
  return {
    up: { word: "Up", icon: "up", tone: "good" },
    down: { word: "Down", icon: "down", tone: "bad" },
  }[backend.health] ?? { word: "Unknown", icon: "unknown", tone: "quiet" };
};

/** The administrative state, unless it is `ready`. */
const administrativeState = (backend) => {
  if (backend.state === "maintain") return { word: "Maintenance", icon: "maintain", tone: "warn" };
  if (backend.state === "ready" && backend.weight === 0) return { word: "Weight 0", icon: "drain", tone: "warn" };
  if (backend.state !== "drain") return null;
  const left = backend.drain_seconds_left;
  const word = left > 0 ? `Draining, ${duration(left)} left` : "Drained";
  return { word, icon: "drain", tone: "warn" };
};

/** Whether it is in rotation for new clients. */
const inService = (backend) =>
  backend.health === "up" && backend.state === "ready" && backend.damped_until === null && backend.weight > 0;

/** Whether it could get a new client now. */
const acceptsNew = (backend) =>
  backend.effective_weight > 0 && (backend.max_connections === null || backend.connections < backend.max_connections);

/** Which clients a pool can serve, if not all; `pools` are all pools. */
const limitation = (pool, pools) => {
  if (!pool.can_serve) return "cannot serve";
  if (pool.backends.some(acceptsNew)) return null;
  const backup = pools.find((other) => other.name === pool.backup);
  if (backup?.can_serve) return `backup ${backup.name} serves`;
  return pool.backends.some((backend) => backend.effective_weight > 0) ? "full" : "pinned clients only";
};

/** Days of validity below which the page warns, as the log does. */
const EXPIRY_WARNING_DAYS = 14;

/** The earliest expiry of the certificates that a backend's checks saw; `null` if they saw none. */
const expiry = (backend) =>
  backend.checks
    .map((check) => check.certificate_expiry)
    .filter((end) => end !== null)
    .sort((a, b) => Date.parse(a) - Date.parse(b))[0] ?? null;

const validity = (end, now) => {
  const days = Math.floor(seconds(now, end) / 86400);
  if (days < 0) return { text: "expired", tone: "bad" };
  const text = days === 1 ? "1 day left" : `${count(days)} days left`;
  return { text, tone: days < EXPIRY_WARNING_DAYS ? "warn" : "plain" };
};

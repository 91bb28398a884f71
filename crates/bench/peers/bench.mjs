// What the drivers share: JSON lines on standard output, orders on standard input, the clock that all processes of the
// machine share. Each driver is `node DRIVER work URL` (runs jobs) or `node DRIVER add URL` (adds them).
import { createInterface } from "node:readline";

export const now = () => Number(process.hrtime.bigint());
export const say = (value) => process.stdout.write(`${JSON.stringify(value)}\n`);
export const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** The size of an event's body elsewhere in the benchmark. */
const FILLER = "x".repeat(1024 - 60);
export const payload = (sent) => ({ sent, ref: "refs/heads/main", filler: FILLER });

/** Counts what is run. */
export class Tally {
  run = 0;
  first = 0;
  waits = [];

  started(job) {
    const at = now();
    this.first ||= at;
    this.run += 1;
    if (job.sent > 0) this.waits.push(at - job.sent);
  }
}

/** `report`: says what has run since the last one. */
export async function follow(tally) {
  say({ ready: true });
  for await (const line of createInterface({ input: process.stdin })) {
    if (line !== "report") continue;
    say({ run: tally.run, first_started: tally.first, waits: tally.waits });
    Object.assign(tally, { run: 0, first: 0, waits: [] });
  }
  process.exit(0);
}

/** `feed COUNT BATCH` adds so many as fast as it can, `pace COUNT RATE` so many in a second. */
export async function add(many, one) {
  say({ ready: true });
  for await (const line of createInterface({ input: process.stdin })) {
    const [order, count, by] = line.split(" ").map((word, n) => (n ? Number(word) : word));
    const began = now();
    if (order === "feed") {
      for (let done = 0; done < count; done += by) {
        await many(Array.from({ length: Math.min(by, count - done) }, () => payload(0)));
      }
    } else {
      const start = performance.now();
      for (let done = 0; done < count; done += 1) {
        await pause(Math.max(0, start + (done * 1000) / by - performance.now()));
        await one(payload(now()));
      }
    }
    say({ began, ended: now() });
  }
  process.exit(0);
}

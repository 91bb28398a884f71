// pg-boss. `work URL BATCH WORKERS NOTIFY` uses its `work()`, `loop URL BATCH LOOPS` a bare loop of fetch and complete.
import { PgBoss } from "pg-boss";
import { Tally, add, follow, pause } from "./bench.mjs";

const [, , what, connectionString, batch, workers, notify] = process.argv;
const QUEUE = "noop";
const boss = new PgBoss({ connectionString, max: 10, useListenNotify: notify === "notify" });
boss.on("error", (error) => console.error(error));
await boss.start();
await boss.createQueue(QUEUE, { notify: true });

const tally = new Tally();
const batchSize = Number(batch);

if (what === "work") {
  const every = { pollingIntervalSeconds: 0.5, notifyPollingIntervalSeconds: 0.5 };
  const options = { batchSize, localConcurrency: Number(workers), burstWhenBatchFull: true, ...every };
  await boss.work(QUEUE, options, async (jobs) => jobs.forEach((job) => tally.started(job.data)));
  await follow(tally);
} else if (what === "loop") {
  const loop = async () => {
    for (;;) {
      const jobs = await boss.fetch(QUEUE, { batchSize });
      jobs.forEach((job) => tally.started(job.data));
      if (jobs.length > 0) await boss.complete(QUEUE, jobs.map((job) => job.id));
      else await pause(1);
    }
  };
  for (let n = 0; n < Number(workers); n += 1) loop();
  await follow(tally);
} else {
  await add(
    (jobs) => boss.insert(QUEUE, jobs.map((data) => ({ data }))),
    (job) => boss.send(QUEUE, job),
  );
}

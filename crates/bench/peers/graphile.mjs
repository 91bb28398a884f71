// graphile-worker. `work URL CONCURRENCY LOCAL_QUEUE`: a local queue of 0 fetches one job at a time, else completion is
// batched too, as its page on performance advises.
import { makeWorkerUtils, run, runMigrations, Logger } from "graphile-worker";
import { Tally, add, follow } from "./bench.mjs";

const [, , what, connectionString, concurrency, localQueue] = process.argv;
const quiet = new Logger(() => () => {});

if (what === "work") {
  const tally = new Tally();
  const size = Number(localQueue);
  const batched = { localQueue: { size }, completeJobBatchDelay: 0, failJobBatchDelay: 0 };
  await runMigrations({ connectionString, logger: quiet });
  await run({
    connectionString,
    logger: quiet,
    noHandleSignals: true,
    taskList: { noop: (job) => tally.started(job) },
    preset: { worker: { concurrentJobs: Number(concurrency), maxPoolSize: 10, ...(size > 0 ? batched : {}) } },
  });
  await follow(tally);
} else {
  const utils = await makeWorkerUtils({ connectionString, logger: quiet });
  await utils.migrate();
  await add(
    (jobs) => utils.addJobs(jobs.map((payload) => ({ identifier: "noop", payload }))),
    (job) => utils.addJob("noop", job),
  );
}

select id, created_at from sched_task where lane_id = :lane and status in (1, 2) and scheduled_at <= now() order by priority desc, scheduled_at, id limit 10 for update skip locked;

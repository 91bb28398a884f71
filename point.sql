select id from sched_task where id = '00000000-0000-7000-8000-000000000000' and created_at = '2026-11-21T00:00:00Z';

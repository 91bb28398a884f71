select id from sched_task where event_id = '00000000-0000-7000-8000-000000000000' order by id;

"""A sweep, from its settings to its summary: plan, driver, worker, upload of journals, recovery, doctor."""

"""Run folders: sessions, logs, exit statuses and the list of runs."""

"""Run folders: sessions, logs, exit statuses and lists of runs."""

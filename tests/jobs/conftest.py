"""The cluster that jobs are submitted to, here as well."""

from tests.commands.test_jobs import head as head

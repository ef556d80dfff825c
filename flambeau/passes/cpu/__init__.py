"""Decisions that depend on a CPU: memory layouts, schedules, splitting."""

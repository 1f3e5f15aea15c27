"""What every process needs: its log, a watchdog, limits of waits and of open files."""

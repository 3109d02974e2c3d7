"""Pure decisions: no file, clock, socket or process is touched here."""

"""The story: one thin file per stage. Each reads, calls one pure function, attaches metadata and returns."""

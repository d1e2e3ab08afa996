"""Following what changes in the database, so that what a process remembers of keys and tokens stays true."""

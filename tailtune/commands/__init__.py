"""The verbs of the command line, one file per group; they parse and print, `tailtune.api` does the work."""

"""Programs that nobody here wrote, made sick by their command line, configuration or data alone: `make real`."""

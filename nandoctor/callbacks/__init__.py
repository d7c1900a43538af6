"""Callbacks for those who prefer code: each is a `with nandoctor.record(...)` around the framework's fit."""

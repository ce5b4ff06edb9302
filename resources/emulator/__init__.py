"""A small HTTP service that behaves like a quantum cloud: queue, noisy devices, calibration, money, faults.

Here: the service and how to start it (``running``). Not here: its client, ``resources.backends.emulator``. Importing
this package loads neither a server framework nor an SDK.
"""

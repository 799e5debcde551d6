"""The machine that asd runs on: networks, disks, stores, signals."""

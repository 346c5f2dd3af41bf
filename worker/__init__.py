"""The worker: claims jobs, runs their engine on one device, stores what comes out."""

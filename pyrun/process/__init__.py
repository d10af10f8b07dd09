"""The choreography of processes: launcher, init, gate, channel, waiting by pidfd."""

"""The Pod's network: rtnetlink for links, addresses and routes, nftables, and the network files of /etc."""

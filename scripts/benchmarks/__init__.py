"""What scripts/bench.py measures with.

commands   child processes under deadlines, timed
machine    the work folder, page cache, and facts about this machine
corpus     the files that are copied
daemons    processes behind a mount: finding, awaiting, their memory
systems    what is compared: a plain folder, gocryptfs, Libernet
rounds     the measured steps
remote     the measured steps with two nodes
report     medians, ratios, marks
"""

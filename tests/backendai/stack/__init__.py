"""Real Backend.AI managers on loopback; only the containers are simulated, by host processes.

Manager, storage proxy, PostgreSQL, Redis and etcd are the published ones, and so is the agents' life-cycle code.
A session is a process group in a mount namespace of its own (agents/). By hand:

    PYTHONPATH=tests .venv/bin/python -m backendai.stack up 23.09 --state /var/tmp/bai
"""

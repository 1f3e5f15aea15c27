"""What runs outside the server: the spawner and the launchers that it forks.

These modules use nothing but a handful of the standard library's C modules, since every session keeps a fork of
them alive; they are started without site-packages and never import the rest of Trackbook.
"""

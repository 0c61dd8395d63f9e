"""The box: the program inside a sandbox that executes IPython cells, shell commands and file tools for its clients.

The package is shipped to the sandbox as one archive (see :mod:`agentstore.sandbox.program`) and run there by a bare
Python without site-packages. Its modules therefore import only the standard library and each other, by relative
imports: nothing else of agentstore exists there. jupyter_client is imported when the first cell is run.

Clients connect to a Unix socket. Each connection carries one request and its response; see :mod:`.protocol`. A client
that disconnects cancels its request, and whatever the request started is killed.

In a bubblewrap sandbox the box is process 1: the code that it runs can neither kill nor stop it, and when it exits,
Linux kills every process in the sandbox. The box exits when the process that started it does, which it notices by the
end of file on the socket that they share.
"""

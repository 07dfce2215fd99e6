"""A real one-node Kubernetes for tests, without Docker and without a trace.

Everything runs in one set of Linux namespaces, whose first process is `inside`. When it ends, the
kernel removes every process, mount, interface and firewall rule of the node. Outside stands one
process, `supervisor`: it holds the other end of a socket that `inside` lives by, carries
connections across the border, and ends the node when nobody holds a `lease` any more.

    lease -> control.sock -> supervisor -> socket pair -> inside -> etcd, kube-apiserver, kubelet...

What it needs: root, Linux with cgroup v1 (alone or hybrid), and the Debian packages that
`.ci/setup` installs. It changes nothing of the machine's own but empty cgroups, which go with it.
"""

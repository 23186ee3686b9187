"""Run an emulated worker's steps from outside: the layers of the sandbox don't exist inside qemu's user mode.

    farm worker --profile emulated-aarch64 --root DIR      a launcher, and a worker within the root
    python -m workers.launcher DIR --socket PATH …         a launcher alone, beside a worker in a container

The launcher is a native process of this machine. It listens on a Unix socket that is bound into the worker's root,
proves its isolation by the sandbox's own probes, and runs each step in a second view of the root: with its own mount,
pid, IPC, name and network namespaces, under the sandbox's supervisor, limits and filters, which hold around the
emulator as around any other program. Neither the worker's token nor its environment is ever within reach of a step.

messages   what worker and launcher say to each other
outside    the worker's side: an Isolation of level `outside`
server     the launcher's side
enter      how the worker itself gets into the root
launch     the two together
"""

"""The command line: one file a command, with HELP, EXAMPLES, add_arguments() and run().

In: the words after `mien`. Out: lines, files and an exit code (0 done, 1 some inputs failed, 2 wrong input). Begin with
`main`, which lists the commands and turns errors into one line. A command opens its room inside run(), so that
`--help` stays light.
"""

"""The command line: typer takes the words apart, `moorage.api` does the work, and what comes back is shown here.

    main        the table of commands, and the way from arguments to an exit code
    options     what every command takes (-r, --json, --quiet), before and after its word
    session     what a running command holds: options, output, the open repository
    errors      exit codes and error lines, in one table
    output      lines for people, one JSON object a line for programs
    records     the JSON objects, one function a kind
    commands/   one module a group of commands
    demo/       `moorage demo`

Commands are imported when they are called: a command pays for its own libraries only.
"""

"""Networks and losses of both methods: functions of parameters and inputs."""

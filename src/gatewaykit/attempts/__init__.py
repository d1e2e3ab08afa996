"""From a call's targets to an answer: the attempt scope, what follows a failure, what is known of each target."""

"""What everybody who takes messages has to do beside it, whether a worker or a client that consumes.

Workers live in an event loop, blocking consumers in a thread. So what is done here is a course of operations
(`steps`): it says what to ask next, and whoever carries it out brings the answers.
"""

"""What kind of loss it is: questions put in other forms, mastery measured again."""
